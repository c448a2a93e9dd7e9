"""What a language model would say after every block: the logit lens as figures."""
