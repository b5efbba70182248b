"""What people accepted, on disk."""
