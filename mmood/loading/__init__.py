"""From shards to batches: the exact split over ranks and workers, decoding, training order."""
