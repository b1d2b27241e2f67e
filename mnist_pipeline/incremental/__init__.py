"""What the orchestration needs: assets, checks, the IO manager. Thin, over the digits."""
