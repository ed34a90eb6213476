"""From an image of any size to the input of a network: fitting, and random changes."""
