"""The long search: recipes and clips that nobody thought of (`make search`)."""
