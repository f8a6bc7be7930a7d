"""The pocket model's UNet trained on by what it shows: the discriminator, the recognizer and the attributes judge it."""
