"""The three services, what they stand on, and what starts them on one machine."""

import os

# Here, because gRPC reads it when it is imported first. With its newer engine two or three
# threads hand each message on before the event loop hears of it; without, one does. That takes
# a fifth off the CPU of 100 streams, a twentieth off that of 600, and as much off the time until
# a turn is acknowledged.
os.environ.setdefault(  # noqa: TID251 - not a setting of ours
    "GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener"
)
