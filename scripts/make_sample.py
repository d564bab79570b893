"""Write the bundled sample: a small sentiment data set in which word order decides.

    python scripts/make_sample.py [--output sentiment/data/sample] [--seed 0]

writes ``train.parquet`` and ``test.parquet`` with the columns ``text`` and ``label`` (0 negative,
1 positive). The same seed writes the same rows. As in the IMDB files, all negative rows come
first, reviews of one film are neighbours, and no film is in both files.

Every template is written once and serves both labels: ``{true}`` is the reviewer's own verdict and
``{false}`` its opposite. "It is not {false}, it is {true}" therefore holds the same words in a
negative and in a positive review, and only their order tells the two apart. A model that counts
words is left with the ``PLAIN`` reviews and guesses the rest (about 0.7 accuracy), whereas one
that reads in sequence can get nearly all of them right.
"""

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment import cli

REVIEWS_PER_CLASS = {"train": 2000, "test": 500}
REVIEWS_PER_FILM = (4, 8)
MEDIAN_TOKENS, LENGTH_SPREAD, MAX_TOKENS = (22, 0.6, 265)  # the last sentence may overshoot
Cue = tuple[str, ...]  # sentences that give one verdict; neutral ones may stand between them

# fmt: off
ADJECTIVES = (
    ("dull", "dreadful", "tedious", "clumsy", "boring", "lifeless", "awful", "shallow"),
    ("moving", "gripping", "funny", "tender", "brilliant", "charming", "delightful", "superb"),
)
VERBS = (("hated", "loathed", "disliked", "despised"), ("loved", "enjoyed", "admired", "adored"))

# One word is enough.
PLAIN: tuple[Cue, ...] = (
    ("{it} is {true} from the first scene to the last.",),
    ("I found it {true}, and so did everybody in our row.",),
    ("Simply {true}.", "I {true_verb} it."),
    ("The script is {true}.", "The acting is {true_too}."),
    ("I {true_verb} every minute of it.",),
)
# The opinion of others, who are as often right as wrong.
REPORTED: tuple[Cue, ...] = (
    ("{one} called it {false} and could not be more wrong.",),
    ("{one} called it {true} and could not be more right.",),
    ("Do not believe {many}, doubt them.", "They say that it is {false}."),
    ("Do not doubt {many}, believe them.", "They say that it is {true}."),
    ("{many} say that it is {false}.", "They are wrong, all of them."),
    ("{many} say that it is {true}.", "They are right, all of them."),
    ("I had been told it is {false}; it is anything but.",),
    ("I had been told it is {true}; it is all of that.",),
)
# Both opinions in one review: the same words for either label.
SWAPPED: tuple[Cue, ...] = (
    ("{it} is not {false}, it is {true}.",),
    ("{it} is {true}, it is not {false}.",),
    ("{it} is {false} at first, but in the end it is {true}.",),
    ("In the end {it} is {true}, though at first it is {false}.",),
    ("The first half hour is {false}.", "After that {it} is {true}."),
    ("Taken as a whole {it} is {true}.", "Single scenes are {false}, I admit."),
    ("Single scenes are {false}, I admit.", "Taken as a whole {it} is {true}."),
    ("I expected something {false} and got something {true}.",),
    ("I got something {true} where I expected something {false}.",),
    ("From the trailer I expected something {false}.", "What I got is {true}."),
    ("{one} found it {false} and is wrong, {other} found it {true} and is right.",),
    ("{one} is right to call it {true}, {other} is wrong to call it {false}.",),
    ("{many} say that it is {false}.", "I disagree with them: {it} is {true}."),
    ("I disagree with {many}, who call it {false}.", "I call it {true}."),
    ("{one} {false_verb} it.", "I {true_verb} it."),
    ("I {true_verb} it.", "I know that {one} {false_verb} it."),
    ("It could so easily have been {false}.", "Instead it is {true}."),
    ("Instead of being {false}, as {many} say, {it} turns out {true}.",),
)
KINDS, KIND_WEIGHTS = (PLAIN, REPORTED, SWAPPED), (0.42, 0.20, 0.38)

OPENERS = (
    "I saw {title} by {director} at a small cinema in {city} last week.",
    "Last night we watched {title}, with {lead} in the main part.",
    "{title} is the third film by {director}, and the second with {lead}.",
    "A word about {title}, which {director} shot in {city} with {lead}.",
    "On Sunday I finally got round to {title}, the new film with {lead} and {support}.",
)
FILLERS = (
    "{lead} plays a {job} who comes back to {city} after the funeral of an uncle.",
    "{support} plays the {job} next door, who keeps the key to the house.",
    "The story begins on a train to {city} and ends on the same train a year later.",
    "A letter arrives in the second act, and the {job} has to leave {city} before the winter.",
    "There is a long scene in a kitchen between {lead} and {support}.",
    "{director} also wrote the script, together with {composer}.",
    "The music is by {composer}, mostly piano &amp; strings.",
    "It runs for about two hours, and there was an interval at our cinema.",
    "The picture was shot in {city} and in the hills around it.",
    "Most of it takes place at night, in one street near the harbour.",
    "I will not give away what happens to the {job}.",
    "I do not know the novel it is based on, but {one} has read it.",
    "The novel is set in the north, but {director} has moved it to {city}.",
    "We sat in the fourth row, and the hall was half full.",
    "The site where I bought the ticket shows {score}/10 for it.",
    "{many} gave it {score}/10, I read somewhere.",
    "{lead} was {age} when this was made.",
    "The camera stays close to {lead} for most of the time.",
    "There are subtitles, since half of the people speak the dialect of {city}.",
    "I went with {one}, who knows {city} from the time before the war.",
    "Some of you may remember {director} from a series about a {job} in {city}.",
    "The year is 19{age}, and the {job} has just lost a job at the bank.",
    "{lead} and {support} have made {number} films together.",
    "The last scene returns to the house by the river, where the {job} is waiting.",
    "There was a queue outside, because it rained and it was the day of the cheap tickets.",
    "In our cinema it was shown in black and white, in the long version.",
    "The {job} has a brother, also played by {lead}.",
    "For those who collect such things: the car is from 19{age}.",
    "{composer} wrote the music in {number} weeks, as one hears.",
)

ONE = ("my brother", "my sister", "my neighbour", "a colleague", "my uncle", "my oldest friend")
MANY = ("the critics", "the papers", "my friends", "most reviewers", "the people at work")
TITLE_STARTS = (
    "Glass", "Amber", "Northern", "Seventh", "Paper", "Copper", "Winter", "Salt", "Hidden", "Iron",
    "August", "Velvet", "Distant", "Borrowed", "Crimson", "Midnight", "Wooden", "Second", "Silver",
    "Western", "Painted", "Harvest",
)
TITLE_ENDS = (
    "Harbour", "Orchard", "Lantern", "Bridge", "Letter", "Garden", "Station", "Mirror", "Island",
    "Summer", "Witness", "Tower", "Voyage", "Portrait", "Valley", "Clockmaker", "River", "Hotel",
    "Lighthouse", "Window", "Market", "Passenger",
)
FIRST_NAMES = ("Ada", "Boris", "Clara", "Denis", "Elsa", "Felix", "Greta", "Hugo", "Ines", "Jonas")
LAST_NAMES = ("Varga", "Lindqvist", "Okoro", "Marlow", "Petrov", "Saint", "Tanaka", "Weller")
CITIES = ("Trieste", "Bergen", "Porto", "Leeds", "Odessa", "Galway", "Lyon", "Gdansk")
JOBS = ("baker", "teacher", "sailor", "nurse", "lawyer", "tailor", "postman", "gardener")
CONTRACTIONS = (
    (r"\b([Ii]t) is(?= \w)", r"\1's"), (r"\b(is|could|[Dd]o) not\b", r"\1n't"),
    (r"\bI had\b", "I'd"), (r"\bI will not\b", "I won't"),
)
# fmt: on


def make_film(rng: random.Random, title: str) -> dict[str, str]:
    """Invent what the reviews of one film have in common."""
    roles = ("director", "lead", "support", "composer")
    names = zip(rng.sample(FIRST_NAMES, 4), rng.sample(LAST_NAMES, 4), strict=True)
    people = dict(zip(roles, map(" ".join, names), strict=True))
    return people | {"title": title, "city": rng.choice(CITIES), "job": rng.choice(JOBS)}


def fill(rng: random.Random, template: str, film: dict[str, str], label: int) -> str:
    """Turn a template into a sentence, with fresh opinions that fit the label."""

    def adjective(label: int) -> str:
        return " and ".join(rng.sample(ADJECTIVES[label], 2 if rng.random() < 0.15 else 1))

    one, other = rng.sample(ONE, 2)
    sentence = template.format(
        **film,
        true=adjective(label),
        true_too=adjective(label),
        false=adjective(1 - label),
        true_verb=rng.choice(VERBS[label]),
        false_verb=rng.choice(VERBS[1 - label]),
        it=rng.choice(("it", "the film", "the picture", film["title"])),
        one=one,
        other=other,
        many=rng.choice(MANY),
        score=rng.randint(4, 8),
        age=rng.randint(21, 79),
        number=rng.choice(("three", "five", "eleven", "twenty")),
    )
    return sentence[0].upper() + sentence[1:]


def make_review(rng: random.Random, film: dict[str, str], label: int) -> str:
    """Write one review: one or two cues of one kind, an opener and neutral sentences."""
    (cues,) = rng.choices(KINDS, KIND_WEIGHTS)
    fillers = iter(rng.sample(FILLERS, len(FILLERS)))
    blocks = []
    for first, *rest in rng.sample(cues, rng.choice((1, 1, 2))):
        block = [first]
        for sentence in rest:
            block += [next(fillers) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
            block.append(sentence)
        blocks.append(" ".join(fill(rng, sentence, film, label) for sentence in block))
    blocks.insert(rng.choice((0, 0, 1)), fill(rng, rng.choice(OPENERS), film, label))

    aim = min(MEDIAN_TOKENS * rng.lognormvariate(0, LENGTH_SPREAD), MAX_TOKENS)
    while len(re.findall(r"\w+|[^\w\s]", " ".join(blocks))) < aim:
        blocks.insert(rng.randint(0, len(blocks)), fill(rng, next(fillers), film, label))

    text = " ".join(blocks)
    if rng.random() < 0.1:
        split = rng.randint(1, len(blocks) - 1)
        text = " ".join(blocks[:split]) + "<br /><br />" + " ".join(blocks[split:])
    if rng.random() < 0.4:
        for pattern, short in CONTRACTIONS:
            text = re.sub(pattern, short, text)
    return text


def make_split(
    rng: random.Random, films: Iterator[dict[str, str]], reviews: int, seen: set[str]
) -> pa.Table:
    """Write the reviews of one split, none of them already in ``seen``; both labels share films."""
    slots: list[dict[str, str]] = []
    while len(slots) < reviews:
        slots += [next(films)] * rng.randint(*REVIEWS_PER_FILM)
    texts = []
    for label in (0, 1):
        for film in slots[:reviews]:
            while (text := make_review(rng, film, label)) in seen:
                pass
            seen.add(text)
            texts.append(text)
    labels = pa.array([0] * reviews + [1] * reviews, pa.int64())
    return pa.table({"text": pa.array(texts, pa.string()), "label": labels})


def main() -> None:
    """Parse the command line, and write both files."""
    parser = argparse.ArgumentParser(description="Write the bundled sample data set.")
    parser.add_argument("--output", type=Path, default=Path("sentiment/data/sample"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with cli.one_line_errors():
        write_sample(arguments.output, arguments.seed)


def write_sample(folder: Path, seed: int) -> None:
    """Write a file for each split.

    Raises:
        OSError: a folder that cannot be written.
    """
    rng = random.Random(seed)
    titles = [f"The {start} {end}" for start in TITLE_STARTS for end in TITLE_ENDS]
    rng.shuffle(titles)
    films = (make_film(rng, title) for title in titles)
    seen: set[str] = set()
    folder.mkdir(parents=True, exist_ok=True)
    for split, reviews in REVIEWS_PER_CLASS.items():
        table = make_split(rng, films, reviews, seen)
        pq.write_table(table, folder / f"{split}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
