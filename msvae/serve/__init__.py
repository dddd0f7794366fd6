"""What a run or a study has computes for others, over HTTP by the protocol of UM-Bridge."""
