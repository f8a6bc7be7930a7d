"""Methods of personalization: photos of a person -> an identity."""
