"""What is said of a model: on the screen, in the card, by an evaluation."""
