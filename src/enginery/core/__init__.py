"""The minds that decide: scheduler, engine membership, client requests. No I/O."""
