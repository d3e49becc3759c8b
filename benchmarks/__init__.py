"""ttybridge beside its peers, in one run on one machine: script/bench."""
