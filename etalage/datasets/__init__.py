"""Data sets as they are published or made up: click logs, synthetic clicks, protocols of papers."""
