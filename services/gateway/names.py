"""The few facts about resource names that the gateway needs.

Whose a resource is, only the session service decides.
"""

from __future__ import annotations

import re

USER_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""A user's id, the part after `users/`."""
