"""What a port is: values, keys, faults, configuration. The standard library only."""
