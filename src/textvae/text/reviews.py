"""Rules of the embedded corpus `grammar`, product reviews, in the notation that `grammar.py` reads.

Six attributes are drawn independently; each of them affects the sentence. Dependencies between distant words are
limited to agreement of tense and person, one sentiment, one intensity, and the features of a category of products,
so that a small model can learn all of it from 20,000 sentences.
"""

from collections.abc import Iterator

_CHOICES: dict[str, dict[str, int]] = {
    "sentiment": {"positive": 55, "negative": 45},
    "tense": {"past": 45, "present": 30, "future": 25},
    "person": {"i": 35, "we": 20, "she": 18, "he": 15, "they": 12},
    "intensity": {"mild": 28, "plain": 40, "strong": 32},
    "length": {"short": 27, "medium": 48, "long": 25},
}

# category: its products, each with a weight
_PRODUCTS: dict[str, dict[str, int]] = {
    "electronics": {"phone": 6, "laptop": 5, "tablet": 4, "camera": 4},
    "kitchen": {"blender": 4, "kettle": 4, "toaster": 4, "mixer": 3},
    "clothing": {"jacket": 5, "sweater": 4, "coat": 4, "shirt": 4},
    "food": {"chocolate": 5, "bread": 5, "cheese": 4, "honey": 3},
    "furniture": {"chair": 5, "sofa": 4, "desk": 4, "bed": 4},
    "books": {"novel": 5, "thriller": 4, "memoir": 3, "biography": 3},
}

# category: adjectives of the product itself, praise first
_OPINIONS = {
    "electronics": ("useful | reliable | powerful", "slow | fragile | unreliable"),
    "kitchen": ("handy | practical | sturdy", "noisy | flimsy | useless"),
    "clothing": ("comfortable | stylish | warm", "itchy | baggy | ugly"),
    "food": ("fresh | tasty | delicious", "bland | stale | tasteless"),
    "furniture": ("elegant | solid | comfortable", "wobbly | uncomfortable | ugly"),
    "books": ("moving | gripping | funny", "boring | confusing | predictable"),
}

# category: its features with the adjectives of each, praise first; the last group, "any", fits every product
_FEATURES = {
    "electronics": {
        "battery": ("strong | reliable", "weak | unreliable"),
        "screen": ("bright | sharp", "dim | blurry"),
        "software": ("fast | stable", "slow | buggy"),
        "charger": ("fast | handy", "slow | fragile"),
    },
    "kitchen": {
        "design": ("clever | practical", "clumsy | ugly"),
        "cord": ("long | sturdy", "short | flimsy"),
        "switch": ("smooth | handy", "stiff | loose"),
        "manual": ("clear | helpful", "vague | confusing"),
    },
    "clothing": {
        "fit": ("flattering | comfortable", "tight | awkward"),
        "fabric": ("soft | warm", "thin | itchy"),
        "stitching": ("neat | strong", "loose | sloppy"),
        "pattern": ("bold | stylish", "dull | ugly"),
    },
    "food": {
        "taste": ("rich | smooth", "bitter | bland"),
        "smell": ("fresh | pleasant", "stale | sour"),
        "texture": ("soft | smooth", "gritty | sticky"),
        "packaging": ("neat | sturdy", "flimsy | wasteful"),
    },
    "furniture": {
        "finish": ("smooth | elegant", "rough | dull"),
        "frame": ("solid | sturdy", "weak | wobbly"),
        "assembly": ("easy | quick", "hard | slow"),
        "height": ("comfortable | practical", "awkward | uncomfortable"),
    },
    "books": {
        "story": ("moving | gripping", "boring | confusing"),
        "writing": ("elegant | witty", "clumsy | dull"),
        "ending": ("clever | touching", "weak | predictable"),
        "cover": ("striking | elegant", "dull | ugly"),
    },
    "any": {
        "price": ("attractive | reasonable", "steep | unreasonable"),
        "quality": ("high | solid", "low | uneven"),
        "delivery": ("quick | smooth", "slow | late"),
    },
}

# verbs of feeling take the simple present: base, with she and he, past
_SIMPLE = """
like likes liked : enjoy enjoys enjoyed : appreciate appreciates appreciated : love loves loved
adore adores adored : dislike dislikes disliked : regret regrets regretted
hate hates hated : detest detests detested : find finds found
"""

# verbs with the product as the subject: base, third person, past
_EFFECTS = """
please pleases pleased : impress impresses impressed : delight delights delighted
disappoint disappoints disappointed : annoy annoys annoyed : infuriate infuriates infuriated
"""

# verbs of doing take the progressive: base, progressive, past
_PROGRESSIVE = """
buy buying bought : order ordering ordered : try trying tried : test testing tested : use using used
wear wearing wore : eat eating ate : read reading read : recommend recommending recommended
choose choosing chose : praise praising praised : keep keeping kept : return returning returned
avoid avoiding avoided : replace replacing replaced : criticize criticizing criticized
"""

_REVIEWS = """
REVIEW [short] = CLAIM .
REVIEW [medium] = 2 OPENER , CLAIM . | 3 SUBJECT TRIAL WHEN CONTRAST OUTCOME it .
REVIEW [medium] = 2 SUBJECT ACT ITEM because POINT . | 2 ADVICE , CONTRAST SUBJECT FEELING it .
REVIEW [medium] = 2 SUBJECT FEELING ITEM GROUND . | 2 SUBJECT WILL FIND ITEM VERDICT , so PRONOUN ACT it .
REVIEW [long] = 3 SUBJECT TRIAL . PRONOUN FEELING it because POINT . | 2 CLAIM . POINTS .
REVIEW [long] = 2 ADVICE , so SUBJECT AUX TESTING it WHEN . POINT . | 2 SUBJECT ACT ITEM WHEN because POINTS .
REVIEW [long] = 2 SUBJECT FEELING ITEM because POINT , so PRONOUN ACT it .

CLAIM = 4 SUBJECT FEELING ITEM | 3 SUBJECT WILL FIND ITEM VERDICT | 3 ITEM WILL AFFECT OBJECT
OPENER = 4 overall | 3 honestly | 3 frankly | 1 admittedly
OPENER = 2 in short | 2 in fact | 1 all in all | 1 to be fair
CONTRAST [positive] = and
CONTRAST [negative] = but
GROUND = 3 because of the FEATURE | 1 despite the EXTRA
ADVICE = a ADVISER ADVISED ITEM
ADVISER = 4 friend | 3 colleague | 3 neighbor | 2 teacher | 1 blogger | 1 stranger
ADVISED = 3 recommended | 2 suggested | 1 mentioned

PRONOUN [i] = i
PRONOUN [we] = we
PRONOUN [she] = she
PRONOUN [he] = he
PRONOUN [they] = they
SUBJECT [i we] = PRONOUN
SUBJECT [she he they] = 1 PRONOUN | 2 my RELATIVE
OBJECT [i] = me
OBJECT [we] = us
OBJECT [she] = 1 her | 2 my RELATIVE
OBJECT [he] = 1 him | 2 my RELATIVE
OBJECT [they] = 1 them | 2 my RELATIVE
RELATIVE [she] = 3 wife | 3 sister | 2 mother | 2 daughter | 1 aunt
RELATIVE [he] = 3 husband | 3 brother | 2 father | 2 son | 1 uncle
RELATIVE [they] = 3 parents | 2 kids | 2 cousins | 1 roommates

ITEM = 3 the PRODUCT | 2 this PRODUCT
WILL [past present] = -
WILL [future] = will
AUX [past] = -
AUX [future] = will
AUX [present i] = am
AUX [present we they] = are
AUX [present she he] = is
IS [past] = was
IS [present future] = is

FEELING [past present] = FEEL
FEELING [future] = 2 will FEEL | 1 EXPECT to FEEL
OUTCOME = 1 PRONOUN FEELING
OUTCOME [past present] = 2 FEEL
OUTCOME [future] = 2 EXPECT to FEEL
EXPECT [i we they] = expect
EXPECT [she he] = expects
FEEL [positive plain] = 3 LIKE | 3 ENJOY | 1 APPRECIATE
FEEL [negative plain] = 3 DISLIKE | 2 REGRET
FEEL [mild] = MILDLY FEEL-MILD
FEEL [strong] = 1 FEEL-STRONG | 2 STRONGLY FEEL-STRONG
FEEL-MILD [positive] = 3 LIKE | 2 ENJOY
FEEL-MILD [negative] = 3 DISLIKE | 2 REGRET
FEEL-STRONG [positive] = 3 LOVE | 1 ADORE
FEEL-STRONG [negative] = 3 HATE | 1 DETEST
MILDLY [positive] = 3 quite | 2 rather | 1 mostly
MILDLY [negative] = 2 slightly | 2 somewhat | 1 rather
STRONGLY = 3 really | 2 truly | 1 absolutely
AFFECT [mild] = MILDLY AFFECT-SOME
AFFECT [plain] = AFFECT-SOME
AFFECT [strong] = 2 really AFFECT-SOME | 1 truly AFFECT-SOME | 2 AFFECT-STRONG
AFFECT-SOME [positive] = 2 IMPRESS | 1 PLEASE
AFFECT-SOME [negative] = 2 DISAPPOINT | 1 ANNOY
AFFECT-STRONG [positive] = DELIGHT
AFFECT-STRONG [negative] = INFURIATE

TRIAL [past] = 3 AUX BUYING ITEM SOURCE
TRIAL [present future positive] = 3 AUX BUYING ITEM SOURCE
TRIAL = 2 AUX TESTING ITEM PLACE
BUYING = 3 BUY | 2 ORDER
TESTING = 3 TRY | 1 TEST
TESTING [electronics kitchen furniture] = 3 USE
TESTING [clothing] = 3 WEAR
TESTING [food] = 3 EAT
TESTING [books] = 3 READ
ACT = AUX ACTION
ACTION [positive] = 3 RECOMMEND | 2 CHOOSE | 2 PRAISE | 1 KEEP
ACTION [negative] = 3 RETURN | 2 AVOID | 2 REPLACE | 1 CRITICIZE
SOURCE = 3 - | 3 online | 2 on sale | 2 as a gift | 1 at full price | 1 at a discount | 1 from a catalog
PLACE = 3 - | 3 at home | 2 with friends | 1 with guests | 1 on vacation
WHEN [past] = 3 last week | 2 last month | 1 last summer | 1 last winter | 2 yesterday
WHEN [past future] = 3 on DAY
WHEN [present] = 3 this week | 2 this month | 2 today | 1 right now | 1 this summer
WHEN [future] = 3 next week | 2 next month | 2 tomorrow | 1 next summer | 1 soon
DAY = 1 monday | 1 tuesday | 1 wednesday | 1 thursday | 2 friday | 2 saturday | 2 sunday

POINT = 2 POINT-OWN | 1 POINT-ANY
POINTS = POINT-OWN and POINT-ANY
EXTRA = 2 price | 2 quality | 1 delivery
VERDICT = 4 DEGREE QUALITY
VERDICT [strong] = 1 EXTREME
DEGREE [plain] = -
DEGREE [mild positive] = 3 quite | 2 fairly | 1 pretty
DEGREE [mild negative] = 3 a bit | 2 rather | 1 slightly
DEGREE [strong] = 3 very | 2 really | 2 extremely
EXTREME [positive] = EXTREMELY superb | EXTREMELY fantastic | EXTREMELY perfect
EXTREME [negative] = EXTREMELY terrible | EXTREMELY awful | EXTREMELY horrible
EXTREMELY = 2 - | 1 absolutely | 1 simply
GENERIC [positive] = 3 good | 2 nice | 2 impressive
GENERIC [negative] = 3 poor | 2 disappointing | 2 unimpressive
QUALITY = 2 GENERIC
"""


def _verbs(table: str) -> list[list[str]]:
    """Return the three forms of every verb in a table."""
    return [verb.split() for line in table.split("\n") if line for verb in line.split(":")]


def _lexicon() -> Iterator[str]:
    """Yield the rules that the tables above define."""
    for base, third, past in _verbs(_SIMPLE):
        yield f"{base.upper()} [past] = {past}"
        yield f"{base.upper()} [future] = {base}"
        yield f"{base.upper()} [present i we they] = {base}"
        yield f"{base.upper()} [present she he] = {third}"
    for base, present, past in (*_verbs(_EFFECTS), *_verbs(_PROGRESSIVE)):
        yield f"{base.upper()} [past] = {past}"
        yield f"{base.upper()} [future] = {base}"
        yield f"{base.upper()} [present] = {present}"
    for category, products in _PRODUCTS.items():
        yield from (f"PRODUCT [{product}] = {product}" for product in products)
        yield f"QUALITY [positive {category}] = {_OPINIONS[category][0]}"
        yield f"QUALITY [negative {category}] = {_OPINIONS[category][1]}"
    for category, features in _FEATURES.items():
        point, when = ("POINT-ANY", "") if category == "any" else ("POINT-OWN", f"[{category}]")
        yield f"{point} {when} = " + " | ".join(f"the {name} IS {name.upper()}-VERDICT" for name in features)
        if category != "any":
            yield f"FEATURE {when} = " + " | ".join(features)
        for name, (praise, blame) in features.items():
            yield f"{name.upper()}-VERDICT = 4 DEGREE {name.upper()}-QUALITY"
            yield f"{name.upper()}-VERDICT [strong] = EXTREME"
            yield f"{name.upper()}-QUALITY = 2 GENERIC"
            yield f"{name.upper()}-QUALITY [positive] = {praise}"
            yield f"{name.upper()}-QUALITY [negative] = {blame}"


ATTRIBUTES: dict[str, dict[str, int]] = {
    "product": {name: w for products in _PRODUCTS.values() for name, w in products.items()},
    **_CHOICES,
}
CATEGORIES = {category: tuple(products) for category, products in _PRODUCTS.items()}
RULES = "\n".join([_REVIEWS, *_lexicon()])
