"""What the --help of every command ends with."""

RUN = """examples:
  benchmark run --quantizer nsvq --codec frae
  benchmark run --quantizer nsvq --quantizer.codebook_bits 8 --codec frae-l3-h2-r2 --training.steps 500
  benchmark run --quantizer nsvq:codebook_bits=8,ste_vq,ema_vq --codec frae,aec --seed 0:3
  benchmark run --data librispeech --data.root LibriSpeech --bitrate 2.4,4.8
  benchmark run --plugin my_vq.py --quantizer my_vq
  benchmark run --quantizer nsvq --print_config > run.yaml && benchmark run --config run.yaml
  benchmark run --quantizer nsvq --codec frae --help        (also shows the options of these two)

A plug-in's options are its constructor's arguments: --quantizer.OPTION, --codec.OPTION, --data.OPTION; likewise
--training.OPTION and --ace.OPTION (the cochlear front end). `name:option=value` sets one plug-in's own in a grid."""
TUNE = """examples:
  benchmark tune --codec frae --quantizer kmeans_vq --trials 50
  benchmark tune --data librispeech --data.root LibriSpeech --trials 200 --workers 8 --study frae.db
  benchmark tune --codec nac --objective validation --space space.yaml --training.steps 500
  benchmark run --config study.yaml

A search that was stopped goes on with the same command; other settings need another --study. Test items have no part in
it. The file of --space names options of --quantizer, --codec, --training and of a training's stages (spsa, vstoi, ...):

  training.learning_rate: {type: log, low: 0.0003, high: 0.05}      (int, float, log)
  codec.widths.0: {low: 8, high: 96, log: true}                     (an entry of a list)
  quantizer.replacement: [0, 0.1, 0.5]                              (one of these)

Without it the learning rate is searched; for frae also the widths of the layers, the band selection's weight and SPSA's
stability (A) and c. With one worker a search is a function of its seed; with several it is not."""
CHECK = """examples:
  benchmark check --quantizer nsvq --quantizer.codebook_bits 3
  benchmark check --plugin my_vq.py --quantizer my_vq"""
SCORE = """examples:
  benchmark references --data librispeech --data.root LibriSpeech references      (what to code, as WAV files)
  benchmark score --reference references --decoded opus16 --bitstreams opus16 --name opus-16k
  benchmark score --reference clean --decoded mine --align --track cochlear

Files belong together by their path without its suffix: references/a/1.wav, opus16/a/1.wav, opus16/a/1.opus. A decoded
file may be 0.1 s longer or shorter than its reference, and of another sample rate; it must not be late, unless --align
takes out the delay that is common to all files. The record lies in the output folder, beside those of runs."""
REFERENCES = """examples:
  benchmark references --data librispeech --data.root LibriSpeech references
  benchmark references references                                                 (of the embedded demo voices)

The files are mono, float32, as a run's codec is handed them: resampled, without DC, speech at -25 dBFS. references.json
says what they are, so that benchmark score puts its record into the same table as runs on these data."""
LEADERBOARD = """examples:
  benchmark leaderboard
  benchmark leaderboard --records results --markdown results.md --plot results.png
  benchmark leaderboard --export leaderboards/results/mine"""
GATE = """examples:
  benchmark gate --baseline leaderboards/results/ci --max-drop vstoi=0.02 --max-drop estoi=0.03"""
LS = """examples:
  benchmark ls
  benchmark ls codecs
  benchmark ls codecs --complexity        (parameters, operations and latency of every codec and preset)"""
ENCODE = """examples:
  benchmark encode speech.wav speech.cbs --run runs/frae_nsvq_demo_s0_0123456789ab
  benchmark encode speech.flac speech.cbs --run runs/NAME --coder huffman
  benchmark encode speech.wav low.cbs --run runs/NAME --streams 2      (a residual quantizer's first two streams)
  benchmark encode speech.wav opus.cbs --run runs/opus-5ms_none_demo_16kbps_s0_0123456789ab

The sound is mixed to one channel, resampled to the rate, and set to the level, of the run's data.
Length and sample rate of the source go into the bitstream's header, its level does not."""
DECODE = """examples:
  benchmark decode speech.cbs back.wav --run runs/frae_nsvq_demo_s0_0123456789ab

The run must be the one that encoded. The sound has the source's length, to the sample, and its rate, one channel and
the level of the run's data. A codec of stimulation patterns decodes to a pattern, which a sine vocoder
makes audible at -25 dBFS."""
REPRODUCE = """examples:
  benchmark reproduce                                      (whose claims there are)
  benchmark reproduce frae                                 (the quick profile: demo voices, a few minutes)
  benchmark reproduce frae --profile full --data.root LibriSpeech --dry-run
  benchmark reproduce frae --profile full --data.root LibriSpeech --seed 0:3
  benchmark reproduce frae --profile full --report-only    (the report again, from the records)

Finished runs are found, one that was cut off goes on. The report, report.md with pictures, lies in the output folder
under reproduce-CLAIMS-PROFILE; a claims file of your own is YAML like codecbench's leaderboards/claims/frae.yaml."""
