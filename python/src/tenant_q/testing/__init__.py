"""Running tasks in tests."""
