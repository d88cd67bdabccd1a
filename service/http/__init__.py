"""Everything that speaks HTTP: routes, schemas, problem documents, uploads, API keys and limits of the protocol."""
