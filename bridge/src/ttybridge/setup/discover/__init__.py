"""Serial adapters of a machine, as port map entries."""
