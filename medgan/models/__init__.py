"""The three networks: generator, discriminator and encoder."""
