"""The encoders: spectrogram windows to tokens, one file each."""
