"""Plan a rollout in waves, and see which devices each wave would have."""

from fleeti import planning

devices = [f"lobby-{n}" for n in range(40)]
plan = planning.plan("1", "10%", "100%", soak_s=3600, errors_max="2%")
for number, wave in enumerate(planning.preview(plan, "rollout-1", devices), start=1):
    print(f"wave {number}: {len(wave)} devices, first {wave[0]}")
