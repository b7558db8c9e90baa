"""The account stage: signals in, trading out."""
