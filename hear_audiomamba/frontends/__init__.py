"""Front ends: waveforms to the spectrograms that the encoders take."""
