"""Score a saved checkpoint: python scripts/evaluate.py checkpoint=RUN [data.path=DIR]."""

from sentiment.evaluate import main

if __name__ == "__main__":
    main()
