"""Questions about the invented sessions of `updates_sessions/`: what holds now, where something else held before.

Four kinds. `update`: a value was told, often twice, and another one later; a third of the questions share few words with
what answers them. `then`: the same, asked between two changes. `unchanged`: something beside it changed, this did not.
`before`: what held earlier is what is wanted.
"""

from dataclasses import dataclass

from invented import BEFORE

ASKED_AT = "2026-11-15T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    sessions: tuple[str, ...]
    """Names of those that tell the answer."""
    answers: tuple[str, ...]
    """Alternatives: any of them will do."""
    stale: tuple[str, ...] = ()
    """What held before, in the words of the sessions."""
    category: str = "update"
    paraphrase: bool = False
    asked_at: str = ASKED_AT

    @property
    def project(self) -> str:
        return self.sessions[0].rpartition("-")[0]


def _now(sessions: str, text: str, *answers: str, old: tuple[str, ...], paraphrase: bool = False) -> Question:
    return Question(text, tuple(sessions.split()), answers, old, paraphrase=paraphrase)


def _then(session: str, day: str, text: str, *answers: str, old: tuple[str, ...]) -> Question:
    return Question(text, (session,), answers, old, "then", asked_at=f"{day}T09:00:00Z")


def _same(sessions: str, text: str, *answers: str) -> Question:
    return Question(text, tuple(sessions.split()), answers, category="unchanged")


def _was(sessions: str, text: str, *answers: str) -> Question:
    return Question(text, tuple(sessions.split()), answers, category=BEFORE)


QUESTIONS = (
    # tidewater
    _now("tidewater-3", "Which port does the tide API listen on locally?", "8061", old=("localhost:8043", "8043:8000")),
    _now("tidewater-5 tidewater-5b tidewater-6", "What command runs the tests?", "just test", old=("`make check` runs", "$ make check", "nox -s unit")),
    _now("tidewater-5 tidewater-5b tidewater-6", "I'm about to push. How do I make sure that nothing broke?", "just test", old=("`make check` runs", "$ make check", "nox -s unit"), paraphrase=True),
    _now("tidewater-4", "Which host do the gauge readings come from?", "api.tidegauge.example", old=("come from feeds.marisat.example", '11:BASE = "https://feeds.marisat.example')),
    _now("tidewater-4", "What is the timeout of a request for gauge readings?", "TIMEOUT_s = 12", old=("12:TIMEOUT_s = 5", "5 seconds at most")),
    _now("tidewater-4", "On which weekday do we roll out?", "Tuesday", old=("Thursday",), paraphrase=True),
    _now("tidewater-5", "How long is a computed forecast cached?", "six hours", "21_600", old=("15 minutes",)),
    _now("tidewater-6", "Which Python version is the image built on?", "3.13-slim", "straight to 3.13", old=("Python 3.11",)),
    _now("tidewater-5b", "How should a commit message look?", "ticket in brackets", "[TW-311]", old=("fix: in front", '-am "fix: say', '-am "feat: mail', "feat: mail when")),
    _then("tidewater-3", "2026-05-01", "What command runs the unit tests?", "nox -s unit", old=("`make check` runs", "$ make check")),
    _same("tidewater-2", "What is the statement_timeout of the tide database?", "which is 8 s"),
    _same("tidewater-1", "Which port does the map viewer have?", "3200"),
    _was("tidewater-2 tidewater-4 tidewater-6b", "Who delivered our gauge readings before tidegauge?", "marisat"),
    _was("tidewater-1 tidewater-1b", "On which weekday did deploys go out at first?", "Thursday"),
    # pressroom
    _now("pressroom-3", "What is the command to install the dependencies with the lockfile?", "pnpm install --frozen-lockfile", old=("yarn install --immutable",)),
    _now("pressroom-3", "I broke something in the rich text package. Whom do I ask for a review?", "oluwaseun", old=("packages/editor: Marta", "Marta looks after", "Marta still stands"), paraphrase=True),
    _now("pressroom-4", "How are component files named in this repo?", "kebab-case", "newsletter-signup.tsx", old=("PascalCase", "ArticleCard.tsx")),
    _now("pressroom-6", "Which search do we use for articles?", "tsvector column with a GIN index", "talks to Postgres alone", old=("Algolia then", "goes through Algolia", "Typesense is in")),
    _now("pressroom-6", "What finds old stories for the readers?", "tsvector column with a GIN index", "talks to Postgres alone", "GIN index on 240,000 articles", old=("Algolia then", "goes through Algolia", "Typesense is in"), paraphrase=True),
    _now("pressroom-5", "What is the name of the feature flag of the live ticker?", "ff.live-coverage", old=("hangs on `ff.ticker-beta`",)),
    _now("pressroom-5", "Where can somebody outside the team look at my branch?", "preview.pressroom.example", old=("staging-eleven",), paraphrase=True),
    _now("pressroom-5", "To how many pixels are pictures scaled?", "1800", old=("at most 2400 px", "larger than 2400 px")),
    _now("pressroom-6", "Which formats does the export write for the web?", "plain HTML", '["html", "idml"]', old=('8:export const formats = ["amp", "idml"]', "writes AMP for the web")),
    _now("pressroom-5b", "Do I open a draft of a pull request first?", "not as a draft", "wait until it's finished", "gh pr ready", old=("open it as a draft", '--draft --title "Mod', '--draft --title "Count')),
    _then("pressroom-4", "2026-06-15", "Which search engine do we use?", "Typesense is in", "what would Typesense cost", "filter search test", old=("Algolia then", "goes through Algolia")),
    _same("pressroom-1b pressroom-6", "Which format does the print layout desk get from the export?", "idml"),
    _same("pressroom-5", "How large are the thumbnails?", "320 px"),
    _was("pressroom-1 pressroom-3", "Who looked after packages/editor before Oluwaseun?", "packages/editor: Marta", "Marta looks after", "Marta still stands", "/packages/editor/ @marta"),
    _was("pressroom-2 pressroom-5", "What was the ticker's flag called while it was in beta?", "ff.ticker-beta"),
    # beeline
    _now("beeline-3", "Where is the configuration file of the daemon?", "/etc/beeline/daemon.toml", old=("reads /etc/beeline.toml", "ok: /etc/beeline.toml", "open /etc/beeline.toml", "root:beeline /etc/beeline.toml")),
    _now("beeline-5", "How many vehicles may one call plan at most?", "MaxVehicles = 90", "90 is what holds", old=("at most 40", "MaxVehicles = 120", "cap is 120")),
    _now("beeline-5", "A depot wants to send us its whole fleet. Where is the limit?", "MaxVehicles = 90", "90 is what holds", old=("at most 40", "MaxVehicles = 120", "cap is 120"), paraphrase=True),
    _now("beeline-3", "On which port does the planner serve gRPC?", "7443", old=("gRPC on 7070", "refused on 7070")),
    _now("beeline-4", "To which topic are finished plans published?", "dispatch.plans", old=("to the topic dispatch.routes",)),
    _now("beeline-4", "How many times is a failed publish tried?", "8 times", "make it 8", old=("3 times",)),
    _now("beeline-5", "How do changes get into main?", "fast-forward", "rebase", old=("requests are squashed", "squash it and", "Squashed, merged"), paraphrase=True),
    _now("beeline-6", "From which branch are releases cut?", "origin/stable", "`stable`", old=("branch `release`",)),
    _now("beeline-6", "With which flags do I run golangci-lint before pushing?", "--new-from-rev=origin/main", old=("run --fast",)),
    _now("beeline-4b", "What do I write log lines with in new Go code?", "slog", old=("logrus, as everywhere", '+logrus.With'), paraphrase=True),
    _same("beeline-1", "On which port are the metrics of beeline?", "9411"),
    _was("beeline-1 beeline-2b beeline-3", "Where did the config file of the daemon lie before it got its own directory?", "/etc/beeline.toml"),
    # orchard
    _now("orchard-4", "For which target do we build the firmware?", "riscv32imac", old=("thumbv7em",)),
    _now("orchard-4", "How do I get a fresh build onto a board?", "espflash flash --monitor", old=("cargo embed", "probe-rs run"), paraphrase=True),
    _now("orchard-4", "What is the command to flash a node?", "espflash flash --monitor", old=("cargo embed", "probe-rs run")),
    _now("orchard-5", "At what time does the morning run of the sprinklers begin?", "04:15", old=("begins at 05:30", "does 05:30 watering")),
    _now("orchard-2", "How often are the soil sensors read?", "from_secs(150)", old=("every 600 s",)),
    _now("orchard-5", "Where do the nodes send their MQTT messages?", "10.20.0.7", old=("broker.orchard.example",), paraphrase=True),
    _now("orchard-4", "Which Rust version does Cargo.toml promise?", 'rust-version = "1.86"', "1.86 or newer", old=("toolchain is 1.74",)),
    _now("orchard-3", "After how many seconds without flow is the pump stopped?", "35 s", old=("20 s without",)),
    _now("orchard-4b", "In which language are the texts of the display?", "English", old=("should be Japanese", "are Japanese already")),
    _same("orchard-2", "How long may a valve take to close before the alarm?", "45 s"),
    _was("orchard-1 orchard-2b orchard-5 orchard-5b", "When did the morning watering start before the heat wave?", "05:30"),
    # abacus
    _now("abacus-4", "How are amounts rounded in the ledger?", "ROUND_HALF_UP", "away from zero", "rounds commercially", old=("money.py:9:ROUNDING = decimal.ROUND_HALF_EVEN", "rounded half to even")),
    _now("abacus-4", "What does the number of a Rotterdam invoice look like?", "R/26/00017", old=("INV-2026-00017", "INV-2026-00212")),
    _now("abacus-6", "How many days after the due date is the first reminder sent?", "days=10", "ten days and not", old=("14 days", "wait 21 days", "+FIRST_REMINDER = timedelta(days=21)")),
    _now("abacus-6", "A customer has not paid. When do we write to them?", "days=10", "ten days and not", old=("14 days", "wait 21 days", "+FIRST_REMINDER = timedelta(days=21)"), paraphrase=True),
    _now("abacus-3", "How much interest on arrears do we charge?", "4.2", old=("is 5 % above",)),
    _now("abacus-2", "Which Celery queue makes the invoice PDFs?", "pdf-render", old=("queue heavy",)),
    _now("abacus-5", "Which part of a deploy brings the schema up to date?", "abacus-migrate", "pre-upgrade hook", old=("entrypoint runs",), paraphrase=True),
    _now("abacus-5", "After how long without a click are accountants logged out?", "AGE = 7200", "two hours", old=("AGE is 900", "AGE = 900")),
    _now("abacus-6", "In which encoding is the export for the tax adviser written?", "utf-8-sig", "UTF-8 with a byte order mark", "UTF-8 (with BOM)", old=("ISO-8859-15, one line",)),
    _now("abacus-4b", "How do I get sample records into a test?", "factory_boy", "factories in tests/factories.py", old=("fixtures in tests/data", "as tests/data/camt"), paraphrase=True),
    _then("abacus-3", "2026-06-01", "How many days after the due date does the first reminder go out?", "21 days", "days=21", old=("14 days",)),
    _same("abacus-1", "How high is the fee of the first reminder?", "7.50"),
    _was("abacus-1", "What was the format of invoice numbers before the branch offices had their own series?", "INV-2026-00017"),
    # larkspur
    _now("larkspur-5", "How many frames has the audio buffer?", "kBufferFrames = 384", "With 384", old=("buffer of 256 frames", "with 256 frames", "+constexpr int kBufferFrames = 512", "buffer of 512")),
    _now("larkspur-2", "Which reference pitch does the tuner use?", "a4 = 442", "442 like", old=("A = 440",)),
    _now("larkspur-3", "What do I build the state of a new screen with?", "Riverpod", old=("kept with Provider",), paraphrase=True),
    _now("larkspur-3", "How do our testers receive nightly builds?", "Firebase App Distribution", old=('App Center group "altos"',), paraphrase=True),
    _now("larkspur-4", "In which file are the English texts of the app?", "assets/i18n/en.json", old=("app_en.arb",)),
    _now("larkspur-4", "When do we publish to the shops?", "first Monday", old=("second Wednesday",), paraphrase=True),
    _now("larkspur-5", "What is the minSdk of the Android app?", "minSdk 26", old=("minSdk 23",)),
    _now("larkspur-4b", "How do we test what a screen looks like?", "semantics tests", "screen reader would say", old=("add a golden picture", "--update-goldens", "wrote test/goldens")),
    _then("larkspur-2", "2026-05-01", "How many frames has the audio buffer?", "kBufferFrames = 512", "Doubling the buffer", old=("buffer of 256 frames",)),
    _same("larkspur-1", "At which tempo does the metronome open?", "72 bpm"),
    _was("larkspur-1 larkspur-3 larkspur-5b", "How did the test choir get its builds before Firebase?", "App Center"),
    # kestrel
    _now("kestrel-2 kestrel-5", "What is the command to preview a change of the edge stack?", "tofu plan -var-file=edge.tfvars", old=("`terraform plan", "$ terraform plan")),
    _now("kestrel-5", "Who is on call for the edge?", "Wen has done", "primary: wen", old=("names Priya", "pager to Jonas", "+primary: jonas")),
    _now("kestrel-5", "An edge machine burns. Whose phone rings first?", "Wen has done", "primary: wen", old=("names Priya", "pager to Jonas", "+primary: jonas"), paraphrase=True),
    _now("kestrel-4", "Through which host do I reach the edge machines?", "gate.kestrel.example", old=("-J jump1.kestrel.example",)),
    _now("kestrel-3", "How long are backups of the edge kept?", "keep-daily 100", "hundred nights", old=("kept for 30 days",)),
    _now("kestrel-2", "How full may a volume get before somebody is alerted?", "> 0.93", old=("disk to 85 %",), paraphrase=True),
    _now("kestrel-4", "Which Kubernetes version does the edge cluster run?", "from 1.29 to 1.31", "v1.31", old=("is on 1.29",)),
    _now("kestrel-5 kestrel-6", "In which AWS region do our machines stand?", "eu-north-1", old=("is in eu-central-1",)),
    _now("kestrel-6", "Where does an edge machine get its certificate from?", "pki/edge/issue", old=("files in Vault at kv/edge/tls, renewed",)),
    _now("kestrel-4b", "In which channel are changes announced?", "#infra-changes", old=("in #edge before", "Posted to #edge")),
    _then("kestrel-3", "2026-05-15", "Who has the edge pager?", "to Jonas", "primary: jonas", old=("names Priya",)),
    _same("kestrel-2b kestrel-4 kestrel-4b", "Which Kubernetes version is on the build cluster?", "1.30"),
    _same("kestrel-1", "At what time does the nightly backup run?", "01:40"),
    _was("kestrel-1 kestrel-1b kestrel-4 kestrel-4b", "What was the bastion called that had the leaked agent?", "jump1"),
    _was("kestrel-1 kestrel-6b", "In which region was everything before we moved to Stockholm?", "eu-central-1"),
    # glyphs
    _now("glyphs-2", "To what width are lines scaled for training?", "1536", old=("64 x 1024 pixels", "64x1024")),
    _now("glyphs-2 glyphs-3 glyphs-5", "How many lines are in a training batch?", "Sixteen at a time", "batch 16", "but 16 generalised", old=("batches of 24 lines", "batch 24")),
    _now("glyphs-3", "Where do the training lines lie?", "/srv/scans/folio_v5", old=("come from /data/folio_v3", "--data /data/folio_v3", "all of /data/folio_v3")),
    _now("glyphs-3", "Which learning rate do we train with?", "lr = 1.5e-4", "1.5e-4 is stable", old=("learning rate 3e-4", "--lr 3e-4")),
    _now("glyphs-4 glyphs-4b", "Which checkpoint does the OCR service load?", "quill-base-0631", old=("loads quill-small-0412", "evaluate quill-small-0412")),
    _now("glyphs-4", "How good must a candidate be to replace the model in service?", "3.2", old=("below 4.0 %",), paraphrase=True),
    _now("glyphs-5", "Which GPU machine do I submit a run to?", "hopper-1", old=("Training on pascal-2", "job on pascal-2")),
    _now("glyphs-5", "What do volunteers fix wrongly read lines with?", "eScriptorium", old=("In Label Studio",), paraphrase=True),
    _now("glyphs-5", "May I start a run of six hours without asking?", "twelve hours", old=("more than an hour",), paraphrase=True),
    _same("glyphs-1 glyphs-2 glyphs-5b", "What is the height of a line in pixels?", "64 x 1024", "64x1024", "64x1536", "height 64"),
    _was("glyphs-1 glyphs-2 glyphs-2b", "Where did the training data lie before the archive scanned everything again?", "/data/folio_v3"),
)  # fmt: skip
