"""Parquet, JSON, CSV and pickle files, written so that they are there whole or not at all."""
