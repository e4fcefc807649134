"""The funnel of one bundle: history → candidates → ranking → order → slate."""
