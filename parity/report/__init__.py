"""What a run leaves behind, and what people and machines read of it."""
