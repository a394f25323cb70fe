"""Due models, decisions, the sensor and its conditions, definitions, and the command line."""
