"""Learners and policies for any vector environment."""
