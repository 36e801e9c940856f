"""The agents' own transcripts, as their programs write them down."""
