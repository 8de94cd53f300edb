"""What knows how photographs look: latent diffusion models, their checkpoints, their place on the devices;
captions.
"""
