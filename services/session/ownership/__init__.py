"""Which process serves a user: leases, take-overs and what nobody owns."""
