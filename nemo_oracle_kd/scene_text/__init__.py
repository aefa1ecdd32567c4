# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Recognition of words in pictures: CTC over the columns of a picture, with the teachers and objectives of speech."""
