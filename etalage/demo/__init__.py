"""The shop that is drawn by code (`tables.py`), and the command that shows it (`command.py`)."""
