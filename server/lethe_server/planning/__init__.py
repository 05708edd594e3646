"""What a pair of models needs, before anything is downloaded or started."""
