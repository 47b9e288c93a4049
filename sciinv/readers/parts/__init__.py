"""What the readers are made of."""
