"""Figures for people: HU windows, curves over training, sample views. Drawn without a display."""
