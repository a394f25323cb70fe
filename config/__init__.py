"""Settings, errors and cron arithmetic. Imports neither Dagster nor SQLMesh."""
