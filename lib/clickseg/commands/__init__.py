"""One file a subcommand of ``clickseg``."""
