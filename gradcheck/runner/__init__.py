"""How a run is made: its plan, its child process, its folder, its self-test."""
