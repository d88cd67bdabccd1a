"""What speaks HTTP: routes, schemas, problem documents, uploads, keys, and the limits of the protocol."""
