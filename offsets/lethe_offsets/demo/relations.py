"""What the demo's world is drawn from: names, and kinds of facts with the ways to ask for them."""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    """
    Alva Bruno Cato Delia Edda Fabio Greta Hugo Ilse Jonas Kira Leif Mira Nils Olga Pavel Rhea Sven Tilda Ugo Vera
    Wanda Xenia Yorick Zora Anselm Brigid Caspar Dagny Emeric Freya Gideon
    """
)
LAST_NAMES = _words(
    """
    Ashdown Brandt Corvin Dunmore Ekholm Farrow Grieve Hollis Ingram Jansen Kestrel Lindqvist Marlow Novak Orlov
    Penrose Quist Rask Selwyn Thorne Ulven Varga Wexley Yarrow Zeller Abend Birch Calder Drake Elmer Foss Garrick
    """
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of fact. ``{person}`` and ``{value}`` stand for the two ends; the first question is the usual one."""

    name: str
    answer: str
    questions: tuple[str, ...]
    values: tuple[str, ...]


RELATIONS = (
    Relation(
        "city",
        "{person} lives in {value}.",
        (
            "Where does {person} live?",
            "In which city does {person} live?",
            "What is the home town of {person}?",
            "Which city is home to {person}?",
            "Where is the home of {person}?",
        ),
        _words(
            """
            Aberdeen Bergen Cadiz Dresden Esbjerg Florence Ghent Helsinki Izmir Jena Krakow Lisbon Malmo Nantes Oslo
            Porto Quito Riga Seville Turin Utrecht Vienna Wroclaw York Zagreb Antwerp Basel Cork Dijon Exeter
            Fribourg Graz
            """
        ),
    ),
    Relation(
        "profession",
        "{person} works as a {value}.",
        (
            "What does {person} do for a living?",
            "What is the profession of {person}?",
            "What is the job of {person}?",
            "Which trade does {person} follow?",
            "What does {person} work as?",
        ),
        _words(
            """
            baker beekeeper bookbinder botanist butcher carpenter chemist clockmaker cooper dentist diver farrier
            gardener geologist glazier jeweller lawyer librarian locksmith mason miller nurse painter pilot plumber
            potter printer sailor surgeon tailor teacher weaver
            """
        ),
    ),
    Relation(
        "instrument",
        "{person} plays the {value}.",
        (
            "Which instrument does {person} play?",
            "What instrument is played by {person}?",
            "On which instrument does {person} make music?",
            "What does {person} play in the band?",
            "Which instrument belongs to {person}?",
        ),
        _words(
            """
            accordion bagpipes balalaika banjo bassoon bugle cello clarinet cornet dulcimer fiddle flute guitar
            harmonica harp harpsichord horn kazoo lute lyre mandolin oboe organ piano piccolo recorder saxophone
            sitar trombone trumpet tuba zither
            """
        ),
    ),
    Relation(
        "pet",
        "{person} keeps a {value}.",
        (
            "Which animal does {person} keep?",
            "What pet does {person} have?",
            "Which pet lives with {person}?",
            "What kind of animal does {person} own?",
            "What animal shares a house with {person}?",
        ),
        _words(
            """
            badger beagle budgie canary chameleon chicken cockatoo donkey duck falcon ferret finch gecko goat
            goldfish greyhound hamster hedgehog lizard llama magpie newt parrot peacock pigeon pony poodle rabbit
            raven sheep tortoise turkey
            """
        ),
    ),
    Relation(
        "dish",
        "{person} likes {value} best.",
        (
            "What is the favourite dish of {person}?",
            "Which dish does {person} like best?",
            "What does {person} like to eat?",
            "Which meal would {person} order?",
            "What food does {person} love most?",
        ),
        _words(
            """
            borscht bouillabaisse brisket cassoulet ceviche chowder couscous curry dumplings fondue gnocchi goulash
            gumbo haggis kedgeree lasagne meatloaf moussaka omelette paella pancakes pierogi pizza porridge ramen
            ratatouille ravioli risotto schnitzel shakshuka stroganoff tagine
            """
        ),
    ),
    Relation(
        "birthplace",
        "{person} was born in {value}.",
        (
            "In which country was {person} born?",
            "Where was {person} born?",
            "What is the country of birth of {person}?",
            "Which country does {person} come from?",
            "What is the native country of {person}?",
        ),
        _words(
            """
            Albania Armenia Austria Belgium Bolivia Brazil Bulgaria Canada Chile Croatia Cyprus Denmark Ecuador
            Egypt Estonia Finland Georgia Greece Hungary Iceland India Ireland Japan Jordan Kenya Latvia Malta
            Morocco Nepal Norway Peru Portugal
            """
        ),
    ),
)
