"""Coverage-guided fuzzing of what reads files and options of users (``make fuzz``)."""
