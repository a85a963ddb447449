"""Fine-tuning of the towers."""
