# SPDX-License-Identifier: Apache-2.0
"""A frame, eight workers that fill a result column, and the parent goes on with pandas."""
import pandas as pd
import pintable

def score(part):  # runs in the workers; part is a DataFrame of some rows, in shared memory
    return part["delay"].fillna(0) * part["seats"] + part["tail"].notna()

if __name__ == "__main__":
    df = pd.DataFrame({"city": ["Zürich", "Paris", "São Paulo", "Oslo"] * 100_000,
                       "tail": ["N101", None, "N103", "N104"] * 100_000,
                       "delay": [1.5, float("nan"), -3.0, 20.0] * 100_000,
                       "carrier": pd.Categorical(["AA", "LX", "AA", "SK"] * 100_000),
                       "seats": range(400_000)})
    with pintable.temporary(df) as table:  # dropped at the end
        table.map(score, out="score", workers=8)
        df = table.to_pandas()  # stays valid
    print(df.groupby("carrier", observed=True)["score"].mean())
