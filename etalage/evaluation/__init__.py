"""Is a model good, and better than the simple ones? `protocols`, `gate`, `calibrate`, `report`."""
