"""SQLMesh models as Dagster assets: manifest, definitions, the shared execution, its ledger."""
