"""Jets as masked sets of constituents: schema, readers, clustering, substructure, generators of jets and of events."""
