"""Output: terminal, Markdown, JSON files and plots."""
