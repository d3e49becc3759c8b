"""What differs between a host as the inventory wants it and as it was read: the plan of a run."""
