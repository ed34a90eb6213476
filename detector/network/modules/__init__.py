"""The parts of the network that can be switched on and off."""
