"""What the operators are made of."""
